/* In place of kvr_ocl_clblast.c when kvr is built without CLBlast: the own product does everything. */
#include "kvr_ocl.h"

void kvri_ocl_clblast_prepare(kvr_opencl *cl) {
    if (cl->gemm == KVR_OPENCL_GEMM_CLBLAST)
        kvri_ocl_log(cl, KVR_LOG_WARN, "this kvr was built without CLBlast: the own product kernel is used");
}

kvr_status kvri_ocl_clblast_scratch(const kvr_opencl *cl, const kvr_backend_need *need, uint64_t *scratch_bytes,
                                    kvr_error *error) {
    (void)cl;
    (void)need;
    (void)scratch_bytes;
    (void)error;
    return KVR_OK; /* none */
}

kvr_status kvri_ocl_clblast_check(kvr_opencl *cl, kvri_ocl_session *session, kvr_error *error) {
    (void)cl;
    (void)error;
    session->use_clblast = 0;
    return KVR_OK;
}

kvr_status kvri_ocl_clblast_warm_up(kvr_opencl *cl, kvr_view work, uint32_t weight) {
    (void)cl;
    (void)work;
    (void)weight;
    return KVR_OK;
}

kvr_status kvri_ocl_clblast_run(kvr_opencl *cl, kvr_view dst, uint32_t weight, kvr_view src, uint32_t rows, int add) {
    (void)cl;
    (void)dst;
    (void)weight;
    (void)src;
    (void)rows;
    (void)add;
    return KVR_ERR_UNSUPPORTED; /* use_clblast is 0: nobody asks */
}
