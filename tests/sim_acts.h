/* stub */
#ifndef TESTS_SIM_ACTS_H
#define TESTS_SIM_ACTS_H
#include <proactor/sim.h>
#include "hits.h"
struct acts;
static inline struct acts *acts_begin(struct pro_sim *sim, struct hits *hits)
{
    return NULL;
}
static inline void acts_end(struct acts *acts)
{
}
#endif
