"""The files of a run, each built from tiles.jsonl and renamed when it is complete."""
