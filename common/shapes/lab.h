/* sRGB (8-bit, gamma encoded) and CIE L*a*b* (D65, 2 degrees).  The world jitters its colours and
 * the judge names them in Lab, where a distance (delta E 1976) of about 2 is just visible. Pure
 * functions; any thread. */
#ifndef DAGLINE_SHAPES_LAB_H
#define DAGLINE_SHAPES_LAB_H

struct lab {
    float l, a, b; /* l in [0,100] */
};

/* r, g, b in [0,255], not necessarily whole. */
struct lab lab_from_rgb(double r, double g, double b);

/* Overwrites rgb[3], each in [0,255]; colours outside sRGB are clipped channel by channel. */
void lab_to_rgb(struct lab c, double rgb[3]);

/* Euclidean distance, delta E 1976. */
double lab_distance(struct lab x, struct lab y);

/* The smallest distance from x to the colours that differ from y by at most `range` in lightness:
 * how far an object's colour is from a background whose texture shifts lightness alone. */
double lab_distance_range(struct lab x, struct lab y, double range);

#endif
