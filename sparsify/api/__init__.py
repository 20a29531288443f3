"""For people with their own training loop: prune, hold a mask through it, measure which layers bear pruning."""
