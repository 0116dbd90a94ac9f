// The map of cells: elements of the kind "map".
