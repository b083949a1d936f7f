"""Mathematics on tensors, without parameters: each slow reference beside its fast form."""
