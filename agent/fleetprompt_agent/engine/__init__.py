"""The engine: a pure core (`core/`), the journal that holds its events, the runner that acts."""
