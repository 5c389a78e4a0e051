"""Raw videos → a dataset of clips to train on: find, cut, measure, judge, write, list (the command ``prep``)."""
