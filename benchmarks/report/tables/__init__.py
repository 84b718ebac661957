"""Tables and how they are written: `table` has entries and rows, and writes them as csv, Markdown, LaTeX and text."""
