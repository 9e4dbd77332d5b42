/*
 * kvr_ocl_source.h - internal: the kernel sources, zero-terminated, made from opencl/kernels at build.
 */
#ifndef KVR_OCL_SOURCE_H
#define KVR_OCL_SOURCE_H

extern const char kvri_ocl_source_common[];
extern const char kvri_ocl_source_dot[];
extern const char kvri_ocl_source_plain[];
extern const char kvri_ocl_source_quantised[];
extern const char kvri_ocl_source_weight[];
extern const char kvri_ocl_source_matvec[];
extern const char kvri_ocl_source_gemm[];
extern const char kvri_ocl_source_quant[];
extern const char kvri_ocl_source_pair[];
extern const char kvri_ocl_source_product[];
extern const char kvri_ocl_source_product_int[];
extern const char kvri_ocl_source_vector[];
extern const char kvri_ocl_source_place[];
extern const char kvri_ocl_source_attention[];
extern const char kvri_ocl_source_attention_tile[];
extern const char kvri_ocl_source_attention_one[];
extern const char kvri_ocl_source_peaks[]; /* a program of its own */

#endif
