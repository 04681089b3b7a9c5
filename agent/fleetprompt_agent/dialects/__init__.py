"""The dialects: what the tools look like on the wire. They translate, and hold no logic."""
