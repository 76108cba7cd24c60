"""An engine that cannot be imported, and not for want of a module."""

raise KeyError("ENGINE_KEY")
