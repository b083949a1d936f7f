"""Commands in processes that have torch already: they begin in hundredths of a second instead of in two."""
