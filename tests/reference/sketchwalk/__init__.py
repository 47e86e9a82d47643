"""The forms of Sketch&Walk, one file each."""
