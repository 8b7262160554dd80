"""What the owner writes: `schema` (the manual), `presets` (the document's numbers), `load`, `infer`."""
