/* SPDX-License-Identifier: Apache-2.0
 * The version of libpluq; the C interface to single layers is sdk/include/pluq/pluq.h. */
#ifndef PLUQ_VERSION_H_
#define PLUQ_VERSION_H_

#ifdef __cplusplus
extern "C" {
#endif

/* "0.9.0"; process lifetime. [any] */
const char* pluq_version(void);

#ifdef __cplusplus
}
#endif

#endif /* PLUQ_VERSION_H_ */
