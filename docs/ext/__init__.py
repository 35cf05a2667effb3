"""The parts of the documentation that are written from the code while the site is built.

`pages` puts them where the pages ask for them; `cli`, `api`, `messages` and `figures` write one
each, `schema` and `prose` are what they share, and `docstrings` prepares docstrings for Sphinx.
"""
