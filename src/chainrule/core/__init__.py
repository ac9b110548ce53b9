"""The core: array types, primitives, index maps, local Jacobians, nodes and graphs."""
