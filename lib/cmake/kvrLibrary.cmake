# kvr_library(<target> <source>...): a part of kvr, static or, with BUILD_SHARED_LIBS, shared. A shared one shows kvr_*
# only and is named after the first two numbers of the version, which promise the same interface
# (kvrConfigVersion.cmake).
function(kvr_library target)
  string(REPLACE "kvr_" "" part ${target})
  add_library(${target} ${ARGN})
  add_library(kvr::${part} ALIAS ${target})
  # visibility and unity builds: whatever a parent wants for its own
  set_target_properties(${target} PROPERTIES C_STANDARD 99 C_STANDARD_REQUIRED ON C_EXTENSIONS OFF EXPORT_NAME ${part}
    C_VISIBILITY_PRESET default UNITY_BUILD OFF)
  if(BUILD_SHARED_LIBS)
    set(map ${PROJECT_SOURCE_DIR}/lib/cmake/exports.map)
    set_target_properties(${target} PROPERTIES VERSION ${PROJECT_VERSION}
      SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR} LINK_DEPENDS ${map})
    # exclude-libs: what comes out of a static library in it is its own affair
    target_link_options(${target} PRIVATE LINKER:--version-script=${map} LINKER:--exclude-libs,ALL
      LINKER:--no-undefined)
  endif()
endfunction()
