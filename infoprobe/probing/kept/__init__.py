"""What a probe keeps of the tensors that pass: counts, samples or moments."""
