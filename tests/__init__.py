"""The tests of Perdure, in the order of their reach: units first, whole processes last."""
