# 64-bit Android by the NDK. Untested: nobody here ran it with an NDK, nor a program on a phone. What tests/cross.sh
# checks is that the core compiles with clang for this target. ANDROID_NDK_HOME: where the NDK is.
if(NOT EXISTS "$ENV{ANDROID_NDK_HOME}/build/cmake/android.toolchain.cmake")
  message(FATAL_ERROR
    "kvr: set the environment variable ANDROID_NDK_HOME to the folder of an Android NDK (r23 or later)")
endif()
set(ANDROID_ABI arm64-v8a)
set(ANDROID_PLATFORM android-24)
list(APPEND CMAKE_FIND_ROOT_PATH ${KVR_TARGET_PREFIX}) # libutf8proc and what else is wanted, built for Android
include($ENV{ANDROID_NDK_HOME}/build/cmake/android.toolchain.cmake)
