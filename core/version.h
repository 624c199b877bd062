/* SPDX-License-Identifier: Apache-2.0
 * libpluq for other programs. The C interface to single layers comes with a later version; this much is there. */
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
