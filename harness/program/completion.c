/* Completion for bash and zsh. What may follow a flag or a verb is read off the placeholder that
 * the tables of verbs.c show: "a|b" are choices, DIR
 * is a folder, CONFIG a YAML file, and so on; an unknown one is a file after a verb, and nothing
 * after a flag. */
#include <stdbool.h>
#include <string.h>

#include "core/method.h"
#include "harness/config/options.h"
#include "harness/program/manual.h"
#include "harness/program/verbs.h"
#include "harness/store/result.h"
#include "sw_version.h"

enum kind { NOTHING, CHOICES, FOLDER, CONFIG, FILES, METRIC, TOPIC, KEY };

static bool is(const char *text, size_t length, const char *name)
{
    return strlen(name) == length && strncmp(text, name, length) == 0;
}

static enum kind kind_of(const char *placeholder, size_t length)
{
    static const struct {
        const char *name;
        enum kind kind;
    } kinds[] = {
        {"DIR", FOLDER},  {"RESULTS", FOLDER}, {"BASE", FOLDER}, {"NEW", FOLDER},
        {"OUT", FOLDER},  {"CONFIG", CONFIG},  {"FILE", FILES},  {"METRIC", METRIC},
        {"TOPIC", TOPIC}, {"KEY=VALUE", KEY},
    };
    if (memchr(placeholder, '|', length))
        return CHOICES;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (is(placeholder, length, kinds[i].name))
            return kinds[i].kind;
    return NOTHING;
}

/* The next placeholder of a verb's usage ("RESULTS [flags]", "[TOPIC]", "FILE…"), or NULL. */
static const char *next_placeholder(const char **usage, size_t *length)
{
    for (;;) {
        const char *s = *usage + strspn(*usage, " [");
        if (!*s)
            return NULL;
        *length = strcspn(s, " ]\xe2");
        *usage = s + strcspn(s, " ");
        if (*length > 0 && !is(s, *length, "flags"))
            return s;
    }
}

static void choices(FILE *out, const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        fputc(text[i] == '|' ? ' ' : text[i], out);
}

static void topics(FILE *out)
{
    fputs("methods metrics", out);
    for (const struct sw_verb *v = sw_verbs; v->name; v++)
        fprintf(out, " %s", v->name);
    for (int i = 0; sw_sections[i]; i++)
        if (strcmp(sw_sections[i]->name, "methods") != 0)
            fprintf(out, " %s", sw_sections[i]->name);
    for (int i = 0; sw_methods[i]; i++)
        fprintf(out, " %s", sw_methods[i]->name);
}

static void metrics(FILE *out)
{
    for (const struct sw_metric_info *m = sw_metric_table; m->name; m++)
        fprintf(out, "%s%s", m == sw_metric_table ? "" : " ", m->name);
}

/* Calls visit for every key of the config that has a value of its own, as --set names it; keys
 * inside lists are left to the user. */
static void each_key(FILE *out,
                     void (*visit)(FILE *out, const char *section, const struct sw_option *option))
{
    for (const struct sw_option *o = sw_config_section.options; o->param.name; o++) {
        if (o->form == SW_OPTION_SECTION)
            for (const struct sw_option *inner = o->section->options; inner->param.name; inner++)
                visit(out, o->param.name, inner);
        else if (o->form != SW_OPTION_WORKLOADS && o->form != SW_OPTION_METHODS)
            visit(out, NULL, o);
    }
}

static void key(FILE *out, const char *section, const struct sw_option *option)
{
    fprintf(out, "%s%s%s= ", section ? section : "", section ? "." : "", option->param.name);
}

static void words(FILE *out, enum kind kind, const char *placeholder, size_t length)
{
    if (kind == CHOICES)
        choices(out, placeholder, length);
    else if (kind == METRIC)
        metrics(out);
    else if (kind == TOPIC)
        topics(out);
    else if (kind == KEY)
        each_key(out, key);
}

/* --- bash ------------------------------------------------------------------------------------- */

static void bash_reply(FILE *out, enum kind kind, const char *placeholder, size_t length)
{
    static const char *const kinds[] = {[NOTHING] = "",
                                        [CHOICES] = "",
                                        [METRIC] = "",
                                        [TOPIC] = "",
                                        [FOLDER] = " kind=folder",
                                        [CONFIG] = " kind=config",
                                        [FILES] = " kind=file",
                                        [KEY] = " kind=key"};
    fputs(" words='", out);
    words(out, kind, placeholder, length);
    fprintf(out, "'%s", kinds[kind]);
}

static void bash_key_values(FILE *out, const char *section, const struct sw_option *option)
{
    if (!option->param.choices)
        return;
    fprintf(out, "        %s%s%s) words='", section ? section : "", section ? "." : "",
            option->param.name);
    choices(out, option->param.choices, strlen(option->param.choices));
    fputs("' ;;\n", out);
}

static void bash_verb(FILE *out, const struct sw_verb *verb)
{
    for (const struct sw_flag *f = verb->flags; f->name; f++) {
        if (!f->value)
            continue;
        fprintf(out, "        %s:%s)", verb->name, f->name);
        bash_reply(out, kind_of(f->value, strlen(f->value)), f->value, strlen(f->value));
        fputs(" ;;\n", out);
    }
    fprintf(out, "        %s:*)", verb->name);
    const char *usage = verb->usage, *placeholder;
    size_t length;
    if ((placeholder = next_placeholder(&usage, &length))) {
        enum kind kind = kind_of(placeholder, length);
        bash_reply(out, kind == NOTHING ? FILES : kind, placeholder, length);
    }
    fputs(" flags='--help", out);
    for (const struct sw_flag *f = verb->flags; f->name; f++)
        fprintf(out, " %s", f->name);
    fputs("' ;;\n", out);
}

void sw_completion_bash(FILE *out)
{
    fprintf(out, "# bash completion for swbench %s, made by `swbench help --format bash`.\n",
            SW_VERSION);
    fputs("_swbench()\n"
          "{\n"
          "    local at=$COMP_CWORD cur=${COMP_WORDS[COMP_CWORD]} prev verb=${COMP_WORDS[1]} "
          "words='' kind='' flags='' key=''\n"
          "    COMPREPLY=()\n"
          "    # \"--flag=value\" and \"--set key=value\" come as three words.\n"
          "    if [[ $cur == = ]]; then\n"
          "        cur=''\n"
          "    elif [[ ${COMP_WORDS[at - 1]} == = ]]; then\n"
          "        ((at--))\n"
          "    fi\n"
          "    prev=${COMP_WORDS[at - 1]}\n"
          "    ((at > 2)) && [[ ${COMP_WORDS[at]} == = && ${COMP_WORDS[at - 2]} == --set ]] && "
          "key=$prev\n"
          "    if ((COMP_CWORD == 1)); then\n"
          "        words='--help --version",
          out);
    for (const struct sw_verb *v = sw_verbs; v->name; v++)
        fprintf(out, " %s", v->name);
    fputs("'\n"
          "    elif [[ $key ]]; then\n"
          "        case $key in\n",
          out);
    each_key(out, bash_key_values);
    fputs("        esac\n"
          "    else\n"
          "        case $verb:$prev in\n",
          out);
    for (const struct sw_verb *v = sw_verbs; v->name; v++)
        bash_verb(out, v);
    fputs("        esac\n"
          "    fi\n"
          "    if [[ $cur == -* && $flags ]]; then\n"
          "        words=$flags kind=''\n"
          "    fi\n"
          "    case $kind in\n"
          "    key) compopt -o nospace ;;\n"
          "    ?*) compopt -o filenames ;;\n"
          "    esac 2>/dev/null\n"
          "    case $kind in\n"
          "    folder) mapfile -t COMPREPLY < <(compgen -d -- \"$cur\") ;;\n"
          "    file) mapfile -t COMPREPLY < <(compgen -f -- \"$cur\") ;;\n"
          "    config) mapfile -t COMPREPLY < <(compgen -f -X '!*.yaml' -- \"$cur\"; compgen -f -X "
          "'!*.yml' -- \"$cur\"; compgen -d -- \"$cur\") ;;\n"
          "    *) mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\") ;;\n"
          "    esac\n"
          "}\n"
          "complete -F _swbench swbench\n",
          out);
}

/* --- zsh -------------------------------------------------------------------------------------- */

/* Help inside '…[help]…' or 'name:help': quotes end the string, brackets and colons the help. */
static void zsh_text(FILE *out, const char *s)
{
    for (; *s; s++) {
        if (*s == '\'')
            fputs("'\\''", out);
        else if (strchr("[]:\\", *s))
            fprintf(out, "\\%c", *s);
        else
            fputc(*s, out);
    }
}

static void zsh_action(FILE *out, enum kind kind, const char *placeholder, size_t length)
{
    fputc(':', out);
    for (size_t i = 0; kind != CHOICES && i < length; i++)
        fputc(placeholder[i], out);
    fputs(kind == CHOICES ? "choice:" : ":", out);
    if (kind == FOLDER || kind == FILES || kind == CONFIG) {
        fputs(kind == FOLDER  ? "_files -/"
              : kind == FILES ? "_files"
                              : "_files -g \"*.(yaml|yml)\"",
              out);
        return;
    }
    fputs(kind == KEY ? "{compadd -S \"\" -- " : "(", out);
    words(out, kind, placeholder, length);
    fputs(kind == KEY ? "}" : ")", out);
}

static void zsh_verb(FILE *out, const struct sw_verb *verb)
{
    fprintf(out, "    %s)\n        _arguments '--help[what this verb takes]'", verb->name);
    for (const struct sw_flag *f = verb->flags; f->name; f++) {
        fprintf(out, " \\\n            '*%s%s[", f->name, f->value ? "=" : "");
        zsh_text(out, f->help);
        fputc(']', out);
        if (f->value)
            zsh_action(out, kind_of(f->value, strlen(f->value)), f->value, strlen(f->value));
        fputc('\'', out);
    }
    const char *usage = verb->usage, *placeholder;
    size_t length;
    if ((placeholder = next_placeholder(&usage, &length))) {
        enum kind kind = kind_of(placeholder, length);
        fputs(" \\\n            '*", out);
        zsh_action(out, kind == NOTHING ? FILES : kind, placeholder, length);
        fputc('\'', out);
    }
    fputs("\n        ;;\n", out);
}

void sw_completion_zsh(FILE *out)
{
    fprintf(
        out,
        "#compdef swbench\n# zsh completion for swbench %s, made by `swbench help --format zsh`.\n",
        SW_VERSION);
    fputs("local context state state_descr line\n"
          "typeset -A opt_args\n"
          "local -a verbs=(\n",
          out);
    for (const struct sw_verb *v = sw_verbs; v->name; v++) {
        fprintf(out, "    '%s:", v->name);
        zsh_text(out, v->summary);
        fputs("'\n", out);
    }
    fputs(")\n"
          "_arguments -C '--help[verbs]' '--version[version, commit and code]' '1:verb:->verb' "
          "'*::argument:->rest'\n"
          "case $state in\n"
          "verb) _describe verb verbs ;;\n"
          "rest)\n"
          "    case $words[1] in\n",
          out);
    for (const struct sw_verb *v = sw_verbs; v->name; v++)
        zsh_verb(out, v);
    fputs("    esac\n"
          "    ;;\n"
          "esac\n",
          out);
}
