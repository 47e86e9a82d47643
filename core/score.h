/* score.h: scores of generated text, 0 … 100. */
#ifndef SW_SCORE_H
#define SW_SCORE_H

#ifdef __cplusplus
extern "C" {
#endif

/* RULER's post-processing, in place: control characters become newlines, white space at both ends goes. */
void sw_score_clean(char *prediction);

/* RULER "all": 100 × the share of references that occur in the prediction, ASCII case ignored. "part": 100 when any does, else 0. */
double sw_score_all(const char *prediction, const char *const *references, int n);
double sw_score_part(const char *prediction, const char *const *references, int n);

#ifdef __cplusplus
}
#endif
#endif
