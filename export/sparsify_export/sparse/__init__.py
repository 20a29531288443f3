"""The target sparse-cpu: a graph's sparse layers become operators that skip zeros. `passes.sparsify` is the way in.

options       what the pass is asked for
available     whether the operators' library is here
operators     the operators' names, which graphs have them, what their weights say of themselves
trial         a small session with one operator
graph         a graph with its producers, its consumers and what is constant in it
observed      shapes of intermediate values, seen in ONNX Runtime
layers        which nodes multiply by a constant matrix, and why the others are not replaced
expressions   what a few scalar nodes compute, as a polynomial
activations   ReLU, GELU and others, known by what they compute and not by how they are written
norms         LayerNormalization, the operator and its decomposed form
neighbours    what follows a layer and can be done by its operator
choice        sparse or dense, and by which kernel
costs         what a sparse kernel is expected to take
dense         what the dense layer takes
plan          what was decided, layer by layer; kept in the file
rewrite       the new graph
parity        the new graph against the old one
file          an ONNX file of any origin, for `sparsify export`
"""
