// SPDX-License-Identifier: Apache-2.0
#include "../ap_utils.h"
