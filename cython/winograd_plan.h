/* What the files of Winograd's convolution share: the plan, and the run of one. */
#ifndef HWKIT_WINOGRAD_PLAN_H
#define HWKIT_WINOGRAD_PLAN_H

#include "amx_gemm.h"
#include "gemm.h"
#include "isa.h"
#include "layout.h"
#include "winograd.h"

enum { X, W, BIAS, RESIDUAL, KINDS };

typedef struct {
    hwkit_plan base;
    hwkit_winograd c;
    const hwkit_kernels *kernels;
    const hwkit_gemm_kernels *table;
    const hwkit_winograd_transform *transform;
    int size;               /* bytes of an element */
    int width;              /* columns of a panel */
    int window;             /* taps */
    int side, seen;         /* pixels of a tile: of a line, and of all */
    int positions;          /* of a transformed tile */
    int64_t cg, kg;         /* channels of a group */
    int64_t area, out_area; /* pixels of an image */
    int64_t across, down;   /* tiles of an image, or of the largest of those that dilation makes of it */
    int64_t every;          /* tiles of all images */
    int64_t blocks;         /* of tiles, of a group */
    /* for each of the positions: what is summed, and where V and the weights of a group have it */
    int64_t deep[HWKIT_WINOGRAD_MOST], v_at[HWKIT_WINOGRAD_MOST], u_at[HWKIT_WINOGRAD_MOST];
    int64_t v_step, u_step; /* elements of V from tile to tile, of the weights from group to group; by tiles,
                             * of V from 32 tiles to the next */
    int64_t m_step;         /* elements of M from position to position */
    /* for each transformed pixel: its position, and which part of the depth it is there */
    unsigned char position[HWKIT_WINOGRAD_MOST], part[HWKIT_WINOGRAD_MOST];
    int64_t v_pixel[HWKIT_WINOGRAD_MOST]; /* and where V has it */
    hwkit_amx_gemm tiles;   /* by tiles: the product at a position; winograd_tiles.c says where V has what */
    int far;                /* images lie in memory, not in a cache */
    int by_channel;         /* weights come as [channel][tap], not as [tap][channel] */
    int is_turned;          /* nchw with dilation: nhwc, by copies of the image and of the result */
    hwkit_turned turned;
    char *zeros;            /* what pixels in the padding point to */
    hwkit_operands operands;
    char *packed;           /* transformed weights, if W is held */
} plan;

/* A block: some tiles, one group. */
typedef struct {
    int64_t from, to, group;
    char *v, *m; /* of tile `from` */
} block;

/* What one thread needs to finish tiles, and to multiply. */
typedef struct {
    char *patch;              /* what the taps of a pixel see */
    char *results, *residual; /* nchw: [m][RUN_PIXELS][channels] */
    char *own;                /* by tiles: hwkit_winograd_tiles_own */
} space;

typedef struct {
    const plan *p;
    const char *x, *w, *u; /* u: transformed weights */
    char *out, *pack_to;
    int64_t share;         /* of a chunk */
    int64_t column_share;  /* stages: columns of a chunk of the product */
    int64_t row;           /* nhwc: elements from pixel to pixel of the result */
    hwkit_epilogue epilogue;
    block b;               /* stages: what all threads work on */
    _Atomic int failed;
} job;

/* What tile number `tile` sees of the channels of a group, from (y, x) of its first output on. */
void hwkit_winograd_point(const plan *p, const char *x, int64_t tile, int64_t group, const void **pixels);

/* By tiles (AMX). The plan's part of it: the depth and the place of positions. */
void hwkit_winograd_tiles_plan(plan *p);
/* Bytes of V of so many tiles, and of what a thread needs besides. */
int64_t hwkit_winograd_tiles_v(const plan *p, int64_t tiles);
int64_t hwkit_winograd_tiles_own(const plan *p);
/* Panel number `panel` of the weights of a group at all positions, u, from the taps as they are turned,
 * [tap and channel][32 columns]; `to` has room for hwkit_winograd_tiles_turn bytes. */
int64_t hwkit_winograd_tiles_turn(const plan *p);
void hwkit_winograd_tiles_pack(const plan *p, char *u, int64_t panel, const char *turned, char *to);
/* Tiles [from, to) of a block into V. */
void hwkit_winograd_tiles_transform(const job *x, const block *b, const space *s, int64_t from,
                                    int64_t to);
/* M at a position, columns [n0, n1), of which n0 starts a panel. */
void hwkit_winograd_tiles_multiply(const job *x, const block *b, const space *s, int64_t position,
                                   int64_t n0, int64_t n1);
/* Whether products by tiles are right for this tile; if not, it is to be computed plainly. */
int hwkit_winograd_tiles_fit(const plan *p, const block *b, int64_t tile);

#endif
