/* SPDX-License-Identifier: MIT
 *
 * Random acts in every continuation, in a simulated world: what docs/faults.md calls "a continuation cancels, restarts,
 * closes, aborts, pauses, posts, moves a deadline, frees its own operation or another's object".
 *
 *      struct acts *acts = acts_begin(sim, hits);      two loops of its own, with sockets, datagrams, pipes and files
 *      pro_sim_run(sim, ...);                          it acts for some hundred continuations, and then rests
 *      pro_sim_calm(sim);
 *      acts_end(acts);                                 runs the world until all of it has come to its end
 *
 * Whatever is wrong ends the process by pro_sim_fail: a start without exactly one final, a continuation that is called
 * from within a call, bytes that are not the next ones that were sent, errors that nothing can have brought about.
 */
#ifndef TESTS_SIM_ACTS_H
#define TESTS_SIM_ACTS_H

#include <proactor/sim.h>

#include "hits.h"

struct acts;

struct acts *acts_begin(struct pro_sim *sim, struct hits *hits);
void acts_end(struct acts *acts);

#endif
