"""An ONNX file pruned on its own: its weights found, scored, and zeroed where they lie. `onnx_prune` is the way in.

wire         the file's messages, and where the bytes of each tensor lie
tensors      tensors as they are stored, read and zeroed one at a time
views        a stored tensor as the matrix its node multiplies by
readers      what reads each stored tensor, directly or rearranged
weights      which tensors are weights, and why the others are not
examples     arrays for the graph's inputs, given or made up
norms        squared norms of what each weight is multiplied with
scores       magnitude and Wanda
choice       scores become masks
writing      the new file, atomically
agreement    dense and pruned graph on the same inputs
report       what was done
"""
