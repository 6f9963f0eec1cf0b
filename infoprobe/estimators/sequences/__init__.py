"""Numbers of single sequences of tokens: matrices of inner products, paths, predictions."""
