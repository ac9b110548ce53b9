"""Ways in and out of other libraries: one file each, loaded when it is used."""
