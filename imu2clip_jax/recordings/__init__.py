"""One reader a source: files of a recording in, `Recording` out."""
