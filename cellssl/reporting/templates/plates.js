// The heat maps of plates: elements of the kind "plates".
