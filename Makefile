# Dagline: the only build file.  `make help` lists the targets.
# Objects live in build/$(MODE)/, so that modes stay side by side and nothing needs a clean.

MODE ?= release
CC ?= gcc
V ?= 0
PREFIX ?= /usr/local
DESTDIR ?=
T ?= 60
BUILD := build/$(MODE)
GEN := $(BUILD)/gen
Q := $(if $(filter 1,$(V)),,@)

.DEFAULT_GOAL := all
.SECONDARY:
.DELETE_ON_ERROR:

# ---- packages: one list for make, CI and the image ------------------------------------------------
# Asked before anything is built; installs what is missing (root or sudo), NO_INSTALL=1 only names it.
ifeq ($(filter help clean packages,$(MAKECMDGOALS)),)
PACKAGES_READY := $(shell export NO_INSTALL='$(NO_INSTALL)'; \
  docker/packages ready build || docker/packages install build test run >&2 && echo yes)
ifneq ($(lastword $(PACKAGES_READY)),yes)
$(error packages are missing: see above)
endif
endif

# ---- flags ---------------------------------------------------------------------------------------
PC := libzmq libprotobuf-c hiredis openblas libcurl jansson yaml-0.1 libpng libjpeg cairo libutf8proc \
      libmicrohttpd libsodium nettle
PC_CFLAGS := $(shell pkg-config --cflags $(PC) 2>/dev/null)
PC_LIBS := $(shell pkg-config --libs $(PC) 2>/dev/null)
DNNL := $(shell printf '\#include <dnnl.h>\n' | $(CC) -E -x c - >/dev/null 2>&1 && echo 1)

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Wdouble-promotion \
        -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition -Wpointer-arith -Wwrite-strings \
        -Wcast-qual -Wformat=2 -Wundef -Wvla -Wswitch-enum -Wimplicit-fallthrough -Wnull-dereference
BASE := -std=c17 -D_XOPEN_SOURCE=700 -g -fno-common -ffp-contract=off -fno-math-errno \
        -fno-trapping-math -fno-omit-frame-pointer '-ffile-prefix-map=$(CURDIR)=.' -fstack-protector-strong -fPIE -pthread
SAN := -fsanitize=address,undefined,float-divide-by-zero,float-cast-overflow -fno-sanitize-recover=all
FLAGS_release := -O2 -D_FORTIFY_SOURCE=2
FLAGS_debug := -O0
FLAGS_asan := -O1 $(SAN)
FLAGS_tsan := -O1 -fsanitize=thread
FLAGS_grad := -O2 -DDAGLINE_REAL_DOUBLE
FLAGS_cover := -O0 --coverage
FLAGS_fuzz := -O1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
FUZZ_LINK_fuzz := -fsanitize=fuzzer,address,undefined
ifeq ($(MODE),fuzz)
CC := clang
endif
ifndef FLAGS_$(MODE)
$(error MODE=$(MODE) is not one of release debug asan tsan grad cover fuzz)
endif

CFLAGS_ALL = $(BASE) $(FLAGS_$(MODE)) $(WARN) $(WERROR) -Icommon -I$(GEN) $(PC_CFLAGS) \
             $(if $(DNNL),-DHAVE_DNNL=1) $(CFLAGS)
LDFLAGS_ALL = -pie -Wl,-z,relro,-z,now $(filter -fsanitize% --coverage -pthread,$(BASE) $(FLAGS_$(MODE))) $(LDFLAGS)
LIBS := $(PC_LIBS) $(if $(DNNL),-ldnnl) -lgomp -lm
# The inner loops of the engine: vectorised further, in every mode that is about speed.
$(BUILD)/obj/common/nn/%.o $(BUILD)/obj/common/shapes/%.o $(BUILD)/obj/common/base/rng.o: HOT := $(if $(filter release grad,$(MODE)),-O3)

# ---- sources -------------------------------------------------------------------------------------
PROTO := $(sort $(wildcard protos/*.proto))
PB_C := $(PROTO:protos/%.proto=$(GEN)/%.pb-c.c)
PB_H := $(PB_C:.c=.h)
# MODE=grad is the engine in double, for the gradient checks alone
GRAD_ONLY := common/base common/io common/nn common/diffusion common/objective
LIB_SRC := $(if $(filter grad,$(MODE)),$(sort $(filter-out common/diffusion/pipeline.c,$(wildcard $(GRAD_ONLY:%=%/*.c))) ),$(sort $(wildcard common/*/*.c)))
SUPPORT_SRC := $(sort $(wildcard tests/support/*.c))
# Files named *_simd.c are compiled once more for each instruction set; nn/simd.h picks one at run time.
ISAS := $(if $(filter x86_64%,$(shell $(CC) -dumpmachine)),avx2 avx512)
ISA_avx2 := -mavx2 -mfma
ISA_avx512 := -mavx512f -mavx512vl -mavx512bw -mavx512dq -mfma -mprefer-vector-width=512
SIMD_SRC := $(filter %_simd.c,$(LIB_SRC))
LIB_OBJ := $(LIB_SRC:%.c=$(BUILD)/obj/%.o) $(if $(filter grad,$(MODE)),,$(PB_C:$(GEN)/%.c=$(BUILD)/obj/gen/%.o)) \
           $(foreach i,$(ISAS),$(SIMD_SRC:%.c=$(BUILD)/obj/%.$(i).o))
SUPPORT_OBJ := $(SUPPORT_SRC:%.c=$(BUILD)/obj/%.o)
LIB := $(BUILD)/libdagline.a
SUPPORT := $(BUILD)/libsupport.a

# service folder -> binary; the logic of each service (all but main.c) is a library for its tests too
SERVICES := sampler scorer trainer store shapes_judge dagline
BIN_sampler := dagline-sampler
BIN_scorer := dagline-scorer
BIN_trainer := dagline-trainer
BIN_store := dagline-store
BIN_shapes_judge := dagline-shapes-judge
BIN_dagline := dagline
BUILT := $(if $(filter grad,$(MODE)),,$(foreach s,$(SERVICES),$(if $(wildcard services/$(s)/main.c),$(s))))
BINS := $(foreach s,$(BUILT),$(BUILD)/bin/$(BIN_$(s)))

UNIT := $(sort $(wildcard tests/unit/*/test_*.c tests/unit/services/*/test_*.c tests/golden/test_*.c))
SYSTEM := $(sort $(wildcard tests/system/test_*.c tests/fault/test_*.c))
GRAD := $(sort $(wildcard tests/grad/test_*.c))
FUZZ := $(sort $(wildcard tests/fuzz/fuzz_*.c))
BENCH := $(sort $(wildcard tests/bench/bench_*.c))
bin_of = $(patsubst tests/%.c,$(BUILD)/tests/%,$(1))

# ---- rules ---------------------------------------------------------------------------------------
STAMP := $(BUILD)/flags
$(STAMP): FORCE
	@mkdir -p $(@D)
	@echo '$(subst ','\'',$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) $(LIBS))' | cmp -s - $@ || \
	 echo '$(subst ','\'',$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) $(LIBS))' > $@
FORCE:

$(GEN)/%.pb-c.c $(GEN)/%.pb-c.h: protos/%.proto
	@mkdir -p $(GEN)
	$(Q)protoc-c --c_out=$(GEN) --proto_path=protos $<

# version.o alone knows the commit, and is built again when it changes.
GIT_STAMP := $(BUILD)/commit
GIT_TEXT := $(shell git rev-parse --short=12 HEAD 2>/dev/null)$(shell git diff --quiet HEAD 2>/dev/null || echo +)
$(GIT_STAMP): FORCE
	@mkdir -p $(@D)
	@echo '$(GIT_TEXT)' | cmp -s - $@ || echo '$(GIT_TEXT)' > $@
$(BUILD)/obj/common/base/version.o: $(GIT_STAMP)
VERSION_DEFS = -DDAGLINE_GIT='"$(GIT_TEXT)"' -DDAGLINE_LIBRARIES='"$(shell for p in $(PC); do \
  printf '%s%s %s' "$$comma" $$p $$(pkg-config --modversion $$p); comma=', '; done)"'
$(BUILD)/obj/common/base/version.o: CFLAGS_VERSION = $(VERSION_DEFS)

$(BUILD)/obj/gen/%.o: $(GEN)/%.c $(STAMP)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) -Wno-conversion -Wno-cast-qual -MMD -MP -c $< -o $@

$(BUILD)/obj/%.o: %.c $(STAMP) | $(PB_H)
	@mkdir -p $(@D)
	@[ $(V) = 1 ] || echo "cc $<"
	$(Q)$(CC) $(CFLAGS_ALL) $(HOT) $(CFLAGS_VERSION) $(if $(filter tests/%,$<),-Itests -Iservices,$(if $(filter services/%,$<),-Iservices)) -MMD -MP -c $< -o $@

define SIMD_RULES
$$(BUILD)/obj/%_simd.$(1).o: %_simd.c $$(STAMP)
	@mkdir -p $$(@D)
	@[ $$(V) = 1 ] || echo "cc $$< ($(1))"
	$$(Q)$$(CC) $$(CFLAGS_ALL) $$(HOT) $$(ISA_$(1)) -DSIMD_ISA=$(1) -MMD -MP -c $$< -o $$@
endef
$(foreach i,$(ISAS),$(eval $(call SIMD_RULES,$(i))))

$(LIB): $(LIB_OBJ)
	$(Q)rm -f $@ && ar rcsD $@ $^
$(SUPPORT): $(SUPPORT_OBJ)
	$(Q)rm -f $@ && ar rcsD $@ $^

define SERVICE_RULES
LIBSRC_$(1) := $$(filter-out services/$(1)/main.c,$$(sort $$(wildcard services/$(1)/*.c)))
$$(BUILD)/service_$(1).a: $$(LIBSRC_$(1):%.c=$$(BUILD)/obj/%.o)
	$$(Q)rm -f $$@ && ar rcsD $$@ $$^
$$(BUILD)/bin/$$(BIN_$(1)): $$(BUILD)/obj/services/$(1)/main.o $$(BUILD)/service_$(1).a $$(LIB)
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$(LDFLAGS_ALL) $$^ $$(LIBS) -o $$@
endef
$(foreach s,$(BUILT),$(eval $(call SERVICE_RULES,$(s))))
SERVICE_LIBS := $(foreach s,$(BUILT),$(BUILD)/service_$(s).a)

CHECK_LIBS = $(shell pkg-config --libs check)
$(BUILD)/tests/fuzz/%: $(BUILD)/obj/tests/fuzz/%.o $(if $(filter fuzz,$(MODE)),,$(BUILD)/obj/tests/fuzz/driver.o) $(SERVICE_LIBS) $(LIB)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS_ALL) $(FUZZ_LINK_$(MODE)) $^ $(LIBS) -o $@
$(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(SERVICE_LIBS) $(SUPPORT) $(LIB)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS_ALL) $< $(SUPPORT) $(SERVICE_LIBS) $(LIB) $(CHECK_LIBS) $(LIBS) -o $@

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)

# ---- targets -------------------------------------------------------------------------------------
.PHONY: all lib demo test check system kills sanitize grad fuzz bench bench-targets pretrain lint fmt install clean help packages FORCE

all: $(BINS) ## build every binary into build/$(MODE)/bin
lib: $(LIB)

demo: all ## post-train the embedded model through the whole pipeline and draw the improvement
	$(Q)docker/packages install run >&2
	$(Q)$(BUILD)/bin/dagline run $(DEMO_ARGS)

test: ## every test: lint, unit, golden, gradients, system, corpus, and the same under ASan/UBSan
	$(Q)docker/packages install test run >&2
	$(Q)$(MAKE) --no-print-directory MODE=release all test-bins lint
	$(Q)$(MAKE) --no-print-directory MODE=grad grad-bins
	$(Q)$(MAKE) --no-print-directory MODE=asan all test-bins
	$(Q)tests/run $(call bin_of,$(UNIT) $(SYSTEM) $(FUZZ)) \
	  $(patsubst tests/%.c,build/grad/tests/%,$(GRAD)) $(patsubst tests/%.c,build/asan/tests/%,$(UNIT) $(FUZZ))
check: test ## the same as test

# a benchmark that does not build is found by the tests
test-bins: $(call bin_of,$(UNIT) $(SYSTEM) $(FUZZ) $(if $(filter release,$(MODE)),$(BENCH)))
grad-bins: $(call bin_of,$(GRAD))
unit: $(call bin_of,$(UNIT)) ## unit and golden tests of this MODE alone
	$(Q)tests/run $^
system: all $(call bin_of,$(SYSTEM)) ## real binaries and a real Redis, kills included
	$(Q)tests/run $(call bin_of,$(SYSTEM))
kills: all $(call bin_of,tests/system/test_kills.c tests/system/test_resume.c) ## 20 kills of each class of process under load, and of a resuming trainer
	$(Q)for t in kills resume; do KILLS=$${KILLS:-20} OPENBLAS_NUM_THREADS=1 $(BUILD)/tests/system/test_$$t || exit 1; done
grad: ## gradient checks in double
	$(Q)$(MAKE) --no-print-directory MODE=grad grad-bins
	$(Q)tests/run $(patsubst tests/%.c,build/grad/tests/%,$(GRAD))
sanitize: ## unit and system tests under ASan and UBSan
	$(Q)$(MAKE) --no-print-directory MODE=asan unit system
fuzz: ## every parser for T=60 seconds each, from its corpus
	$(Q)docker/packages install fuzz >&2
	$(Q)$(MAKE) --no-print-directory MODE=fuzz fuzz-bins
	$(Q)tests/fuzz/run build/fuzz/tests/fuzz $(T)
fuzz-bins: $(call bin_of,$(FUZZ))
bench: all $(call bin_of,$(BENCH)) ## figures, each as a percentage of the machine's own floor
	$(Q)docker/packages install test run >&2
	$(Q)tests/bench/table $(call bin_of,$(BENCH))
bench-targets: all ## objectives on densities of known answer, beside published figures (hours; cached)
	$(Q)tests/bench/targets $(TARGETS_ARGS)
pretrain: all ## train the embedded model from scratch (resumable; about an hour on 2 cores)
	$(Q)$(BUILD)/bin/dagline pretrain $(PRETRAIN_ARGS)
lint: all ## layers, banned functions, headers; compose.yaml against the binaries
	$(Q)for l in $(sort $(wildcard tests/lint/*.sh)); do BIN=$(BUILD)/bin $$l || exit 1; done
fmt: ## format the sources in place
	$(Q)clang-format -i $$(git ls-files '*.c' '*.h')
# a blank is escaped, not quoted: a ~ keeps its meaning
TO = $(subst $() ,\ ,$(DESTDIR)$(PREFIX))
install: all ## binaries and the embedded model under $(PREFIX)
	install -d $(TO)/bin $(TO)/share/dagline
	install -m 755 $(BINS) $(TO)/bin
	cp -r models $(TO)/share/dagline/
	chmod -R a+rX $(TO)/share/dagline/models # of a private checkout, for every user
packages: ## install what the build, the tests and a run need
	$(Q)docker/packages install build test run
clean: ## remove build/
	rm -rf build
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile
