"""How fast perpdash is, beside the least that is possible and beside what people would use instead. `make bench`."""
