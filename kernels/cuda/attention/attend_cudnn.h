/* attend_cudnn.h: dense causal attention by cuDNN, where the build found cudnn-frontend's headers
 * and the machine has the library. */
#ifndef SW_ATTEND_CUDNN_H
#define SW_ATTEND_CUDNN_H

#include "kernels/cuda/device/device.h"

/* Queues a (dense, n_q == n_k). *done: false when there is no library here, or it does not take the
 * shape; then nothing was queued. */
SW_MUST_CHECK enum sw_status sw_cudnn_attend(struct cuda_state *s, const struct sw_attend *a,
                                             bool *done);
void sw_cudnn_close(struct cuda_state *s);
/* "cuDNN 9.19.0", or "" where there is none. */
void sw_cudnn_version(char *text, size_t size);

#endif
