"""What the owner writes: `schema` (the manual), `presets` (the document's numbers), `load`, `infer`."""

import os

# pydantic would look through all installed packages for plugins, in every command
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
