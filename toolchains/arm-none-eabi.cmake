# Cortex-M7 without an operating system, newlib. Debian packages: see README.md.
set(KVR_TRIPLE arm-none-eabi)
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR cortex-m7)
set(CMAKE_C_COMPILER ${KVR_TRIPLE}-gcc)
set(CMAKE_C_FLAGS_INIT "-mcpu=cortex-m7 -mthumb -mfloat-abi=hard -mfpu=fpv5-d16")
set(CMAKE_EXE_LINKER_FLAGS_INIT "--specs=rdimon.specs") # input and output through the debugger, here the emulator
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-system-arm -M mps2-an500 -nographic -monitor none -serial none
  -semihosting-config enable=on,target=native -kernel)

# Libraries of the target only, never the PC's. KVR_TARGET_PREFIX: where more of them were installed.
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES KVR_TARGET_PREFIX)
set(CMAKE_FIND_ROOT_PATH ${KVR_TARGET_PREFIX})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
