"""The `fp_*` tools, each once; dialects translate and hold no logic."""
