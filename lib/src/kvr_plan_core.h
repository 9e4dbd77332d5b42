/* kvr_plan_core.h - internal: the plan together with what the backend measured; also used by kvr_session_open. */
#ifndef KVR_PLAN_CORE_H
#define KVR_PLAN_CORE_H

#include "kvr/kvr_plan.h"

kvr_status kvri_plan_compute(const kvr_model *model, const kvr_config *config, const kvr_backend *backend,
                             kvr_plan *out, kvr_backend_size *out_size, kvr_error *error);

#endif
