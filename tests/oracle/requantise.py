#!/usr/bin/env python3
"""A float model with its matrices in another type, to see what a type or --precision costs in perplexity.

    python3 tests/oracle/requantise.py stories260K.gguf Q8_0 out.gguf
    kvr perplexity -m out.gguf -f text.txt --precision exact        # and fast

Needs numpy and gguf (PyPI). Matrices whose rows are no whole number of blocks stay as they are.
"""
import sys

import gguf
import numpy as np


def main():
    source, type_name, out = sys.argv[1:]
    wanted = gguf.GGMLQuantizationType[type_name]
    block = gguf.GGML_QUANT_SIZES[wanted][0]
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(out, reader.fields["general.architecture"].contents())
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        if field.types[0] == gguf.GGUFValueType.ARRAY:
            writer.add_array(field.name, field.contents())
        else:
            writer.add_key_value(field.name, field.contents(), field.types[0])
    for tensor in reader.tensors:
        if tensor.tensor_type not in (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16):
            sys.exit(f"{source}: {tensor.name} is {tensor.tensor_type.name}, not a float type")
        values = np.array(tensor.data).astype(np.float32).reshape([int(n) for n in reversed(tensor.shape)])
        if values.ndim == 2 and values.shape[1] % block == 0:
            writer.add_tensor(tensor.name, gguf.quants.quantize(values, wanted), raw_dtype=wanted)
        else:
            writer.add_tensor(tensor.name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


main()
