"""From a ticket to what deploys: ONNX, runtimes behind one protocol, parity, sizes and paired latency.

Imports `sparsify`, never the other way round. Nothing heavy is imported here: each module brings its own.
"""
