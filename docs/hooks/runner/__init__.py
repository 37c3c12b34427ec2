"""Find, run and remember the code of the pages; nothing here knows MkDocs."""
