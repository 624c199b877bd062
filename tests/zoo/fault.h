/* SPDX-License-Identifier: Apache-2.0
 * Which rule this plugin breaks; defined in fault.c. */
#ifndef ZOO_FAULT_H_
#define ZOO_FAULT_H_
#ifdef __cplusplus
extern "C"
#else
extern
#endif
    const char *const zoo_fault;
#endif
