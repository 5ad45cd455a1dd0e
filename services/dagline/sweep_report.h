/* A sweep as people read it: sweep.md, a table with one row for each group of settings, the best first; sweep.png, the
 * curves of the best CHART_SERIES_MAX groups.  Means over the runs of a group; ± is half of the 95 % interval of the mean
 * (Student's t), and a band reaches from the lowest run to the highest. */
#ifndef DAGLINE_DAGLINE_SWEEP_REPORT_H
#define DAGLINE_DAGLINE_SWEEP_REPORT_H

#include "dagline/sweep_plan.h"
#include "dagline/sweep_result.h"

/* result [plan->runs]; where updates is 0, the run is not there (yet).  reach: a level of the smoothed training reward;
 * NAN: no such column. */
int sweep_report_write(const char *dir, const char *title, const struct sweep_plan *plan, const struct sweep_result *result,
                       double reach, struct err *e) MUST_USE;

#endif
