"""The page: `build` fills `page.html.j2` with tables, figures and provenance into one file that needs nothing else."""
