/* shape.h: attention shapes, and the table of known models' shapes (`swbench ls shapes`). */
#ifndef SW_SHAPE_H
#define SW_SHAPE_H

#ifdef __cplusplus
extern "C" {
#endif

struct sw_shape {
    int n_layers;   /* L */
    int n_heads;    /* H, query heads */
    int n_kv_heads; /* Hkv; head h reads KV head h / (H / Hkv) */
    int head_dim;   /* d */
};

struct sw_named_shape {
    const char *name;
    struct sw_shape shape;
    int hidden, intermediate, vocab; /* for whole random-weight models */
    int max_context;
    double rope_theta;
    const char *source; /* where the figures come from */
};

extern const struct sw_named_shape sw_shapes[];               /* ends with name == NULL */
const struct sw_named_shape *sw_shape_find(const char *name); /* NULL when unknown */

#ifdef __cplusplus
}
#endif
#endif
