"""One adapter a file, each behind the `Slide` protocol; the order in which they are tried is in `wsi.slide`."""
