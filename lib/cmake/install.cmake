# Install rules: each part of kvr that was built, its headers, and how find_package and pkg-config find it.
include(CMakePackageConfigHelpers)
set(KVR_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/kvr)
file(RELATIVE_PATH KVR_PC_PREFIX ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
foreach(dir IN ITEMS LIBDIR INCLUDEDIR) # GNUInstallDirs allows absolute ones
  set(KVR_PC_${dir} "\${prefix}/${CMAKE_INSTALL_${dir}}")
  if(IS_ABSOLUTE "${CMAKE_INSTALL_${dir}}")
    set(KVR_PC_${dir} "${CMAKE_INSTALL_${dir}}")
  endif()
endforeach()

# kvr_install_part(<core|opencl|zmq|posix|none> <pkg-config name> <folder of its headers> <description>
#                  <parts of kvr that it requires> <libraries of others>, both by their pkg-config names)
function(kvr_install_part part pc_name include_dir description requires libraries)
  if(NOT TARGET kvr_${part})
    return()
  endif()
  set_target_properties(kvr_${part} PROPERTIES EXPORT_NAME ${part} INSTALL_RPATH "$ORIGIN")
  install(TARGETS kvr_${part} EXPORT kvr-${part} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(EXPORT kvr-${part} NAMESPACE kvr:: DESTINATION ${KVR_CMAKE_DIR})
  install(DIRECTORY ${include_dir}/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")

  set(KVR_PC_NAME ${pc_name})
  set(KVR_PC_LIBRARY kvr_${part})
  set(KVR_PC_DESCRIPTION ${description})
  set(KVR_PC_REQUIRES ${requires})
  set(KVR_PC_REQUIRES_PRIVATE "")
  if(BUILD_SHARED_LIBS)
    set(KVR_PC_REQUIRES_PRIVATE ${libraries})
  else()
    string(STRIP "${requires} ${libraries}" KVR_PC_REQUIRES)
  endif()
  configure_file(${PROJECT_SOURCE_DIR}/lib/cmake/kvr.pc.in ${PROJECT_BINARY_DIR}/${pc_name}.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/${pc_name}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endfunction()

set(KVR_PC_CLBLAST "")
if(KVR_WITH_CLBLAST)
  set(KVR_PC_CLBLAST "clblast ")
endif()
kvr_install_part(core kvr ${PROJECT_SOURCE_DIR}/lib/include "portable core" "" "libutf8proc")
kvr_install_part(opencl kvr-opencl ${PROJECT_SOURCE_DIR}/opencl/include "OpenCL backend" "kvr"
  "${KVR_PC_CLBLAST}OpenCL")
kvr_install_part(zmq kvr-zmq ${PROJECT_SOURCE_DIR}/port/zmq/include "ZeroMQ link" "kvr" "libzmq")
kvr_install_part(posix kvr-posix ${PROJECT_SOURCE_DIR}/port/posix/include "POSIX port" "kvr" "")
kvr_install_part(none kvr-none ${PROJECT_SOURCE_DIR}/port/none/include "port without an operating system" "kvr"
  "")
install(DIRECTORY ${PROJECT_BINARY_DIR}/lib/include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

configure_package_config_file(lib/cmake/kvrConfig.cmake.in kvrConfig.cmake INSTALL_DESTINATION ${KVR_CMAKE_DIR})
write_basic_package_version_file(kvrConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/kvrConfig.cmake ${PROJECT_BINARY_DIR}/kvrConfigVersion.cmake
  lib/cmake/kvrFind.cmake DESTINATION ${KVR_CMAKE_DIR})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATAROOTDIR}/doc/kvr)
