"""The policy: hybrid model, tokenizer, checkpoints, batches and the GRPO loss."""
