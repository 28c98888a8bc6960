"""All code that depends on the version of a library, and nothing else; each file names the versions it is for."""
