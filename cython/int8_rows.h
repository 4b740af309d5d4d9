/* Lists of tiles by rows, for the tables of int8.inc. */
#define HWKIT_ROWS_4(T, nv) T(1, nv) T(2, nv) T(3, nv) T(4, nv)
#define HWKIT_ROWS_6(T, nv) HWKIT_ROWS_4(T, nv) T(5, nv) T(6, nv)
#define HWKIT_ROWS_14(T, nv)                                                                       \
    HWKIT_ROWS_6(T, nv) T(7, nv) T(8, nv) T(9, nv) T(10, nv) T(11, nv) T(12, nv) T(13, nv)         \
    T(14, nv)
