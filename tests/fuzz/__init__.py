"""What comes from outside, made up from a kept corpus: nothing of it may be a surprise."""
