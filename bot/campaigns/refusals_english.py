"""How people refuse further calls in English.

The phrases are as a recogniser writes them, which may know no commas: lower case, no apostrophes.
"""

import re
from typing import Final

from bot.campaigns.phrases import Grammar

__all__ = ["refuses_in_english"]

GRAMMAR: Final = Grammar(
    """
<call>      = call | phone | ring [up] | dial | contact | telephone | robocall | cold call
<calling>   = calling | phoning | ringing [up] | dialing | dialling | contacting | telephoning
              | robocalling | cold calling
<called>    = called | phoned | rung | contacted | disturbed | bothered | harassed
<bother>    = bother | disturb | harass | pester | bug | hassle | annoy | spam
<bothering> = bothering | disturbing | harassing | pestering | bugging | hassling | annoying
              | spamming
<to_call>   = <call> | (try | continue | attempt) to <call>
              | (keep | be | go | try | continue) <calling>
              | (think (about | of) | waste (my | your) time [again] [by]) <calling>
<a_kind>    = sales | cold | spam | marketing | unsolicited | solicitation | telemarketing
<of_those>  = all | any | the | your | these | those | this | such | more | further | other
              | another | phone | of | <a_kind>
<calls>     = [<of_those>] [<of_those>] [<of_those>] [<of_those>] (calls | robocalls | robo calls)

<you>       = you [guys | people | all | folks | lot] | yall
<anybody>   = (anyone | anybody | someone | somebody) [(from | at) your company | else]
              | nobody | no one | it | them | machines | robots | a (machine | robot | computer)
              | your (company | people | colleagues | computer | machine | robot | robots)
<i>         = i | we | im | i am | we are | ive | weve | i have | we have | id | wed | ill
<family>    = mother | mom | mum | father | dad | parents | wife | husband | son | daughter | kids
              | children | family | friends | ex | brother | sister
<device>    = phone | telephone | cell | mobile | home | work | office | house
<number>    = (my | our | this | that) [<device>] (number | numbers)
<line>      = (my | our | this) (<device> [<device>] | line | job | workplace)
<me>        = (me | us) (at | on) this (number | phone) | me | us | here
              | [at | on | to] (<number> | <line>)
<data>      = name | number | details | contact [details] | information | info | data
<mine>      = <number> | (my | our | all [of] my) [contact | personal] <data>
<hold>      = me | us | (<mine> | my (phone | cell)) [and [my] <data>]

<again>     = [back] again | anymore | any more | any longer | no more | at all | in [the] future
              | by (phone | telephone) | for any reason | for anything
              | under (any | no) circumstances
<once_more> = again | anymore | one more time | once more
<no_name>   = <end> | back | up | about | with | from | for | over | at | on | in | any | again
              | here | now | today | because | since | and | or | but | so | then | i | im | ive
              | ill | id | its | it | we | weve | you | youre | ok | okay | alright | already
              | right | immediately | every | all | another | stop | take | remove | leave | before
              | until | till | after | while | when | if | this | too | do | dont | did | understand
              | understood | never | not | no | bye | goodbye | what | how | why | who | like
              | under | constantly | nonstop | anyway
<me_again>  = [<me>] <again> [<again>] | <me> &(<no_name>)
<full_stop> = <end> | do | dont | i | im | ill | its | or | and | ok | okay | alright | now
              | hello | bye | goodbye

<day>       = monday | tuesday | wednesday | thursday | friday | saturday | sunday | mondays
              | tuesdays | wednesdays | thursdays | fridays | saturdays | sundays | weekday
              | weekdays | weekend | weekends | holiday | holidays | day off
<month>     = january | february | march | april | may | june | july | august | september
              | october | november | december | summer | winter
<daytime>   = morning | mornings | afternoon | afternoons | evening | evenings | night | nights
<meal>      = breakfast | (lunch | dinner) [time | break] | lunchtime | dinnertime | supper
<oclock>    = one | two | three | four | five | six | seven | eight | nine | ten | eleven | twelve
              | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | 12 | noon | midnight
              | <any> (oclock | am | pm)
<span>      = while | bit | moment | minute | minutes | hour | hours | day | days | week | weeks
              | month | months
<then>      = before | until | till | til | after | between | during | while | when | whenever
              | unless | if | past | once | twice | so much | (earlier | later | more) than
              | [so | too | this | that | very | any] (early | late | later | often)
              | at (<oclock> | <meal> | night | weekends | [the] (moment | weekend))
              | at (this | that) (hour | time | moment)
              | in (<month> | [the] (<daytime> | moment | middle))
              | on [a | the | my] (<day> | <meal> | break)
              | for [a | the | another] [few | couple | next | <oclock>] [of] [rest of the]
                (<span> | today)
<now>       = <then> | [right] now | today | tonight | tomorrow | yet | right this second
              | (this | next) (<daytime> | weekend | week | month | time | minute | hour)
<place>     = back | [at] (work | home | the office) | here | on (this | my) (number | phone)
<later>     = [<place>] <now>

<dont>      = dont | do not | never
<order>     = [<you>] (not to [never] | never to | to not | to never) | better not | <start> not
              | <you> (cant | cannot | can not) [keep] | youd better not
              | <you> (must | should | may | will | better | had better) not
              | <you> (mustnt | shouldnt | not) | <you> (must | should | will) never
              | <you> are (not | never) to | youre (not | never) to | (can | could) you like not
<nice_if>   = ([id | would | i would] appreciate [it] | it | nice | better | best | great
              | grateful) if
<hoping>    = (sure | ensure | hope | prefer | rather | ask | asked | request | demand | insist
              | suggest | note | so | told | telling | wish) [that] [if] | <nice_if>
<hoped>     = <hoping> <you> (<dont> | didnt | did not | wouldnt | would not)
              | (who are | know | said to | hate | fuck | screw) you <dont>
<nagging>   = <nice_if> <you> [would] | if you (dont | do not | wont) | why (dont | wont) <you>
              | when will <you>
<stop>      = stop | quit | cease | discontinue | refrain from | mind not | cease and desist
<want>      = want | need | wish | like
<dont_want> = (dont | do not | doesnt | does not | didnt | did not | never | no longer)
                (want | wish | wanna | care | consent | agree) [to]
              | never (wanted | agreed | consented | signed up | asked) [to | for]

<off>       = off [of] | from | out of
<type>      = call | calls | calling | customer | contact | phone | mailing | dialing | dialling
              | marketing | sales | stupid
<list>      = [all | any | all of] [the | your | that | this | these | any | every | all | their
              | whatever] [<type>] [<type>] (list | lists | database | databases | system | systems
              | record | records | file | files | sheet | calls | contacts)
<dnc>       = [the | your | a | any | our] [national | internal | federal] ((do not | dont | no)
              (call | contact) (list | registry | register) | suppression list)
<delete>    = remove | delete | erase | scratch | block | blacklist | wipe | purge | destroy
              | get rid of
<deleted>   = gone | removed | deleted | erased | taken off
<opt_out>   = unsubscribe | opt [me | us] out | opting out
<consent>   = consent | permission | authorization | authorisation | right | business
<allow>     = authorize | authorise | authorized | authorised | allow | allowed | permit
              | permitted
<few>       = [<any>] [<any>] [<any>] [<any>]
<police>    = sue | report | police | cops | lawyer | attorney | court | complain | complaint
              | block

<say>       = say | said | saying | ask | asked | asking | mean | meant | tell | told | telling
<unsaid>    = (didnt | did not | never | havent | have not | not) <say> [<you>] [to | that] [<i>]
              | did (i | we) <say> [<you>] [to | that] [<i>] | not that <i>
<somebody>  = <i> | they | he | she | who | people | nobody | my <family> | <you>
              | (if | when | do | did | does | have | why | why do | why did) [<you>]
<habit>     = <somebody> [usually | normally | often | also | still | can | could | will | would]
<hearsay>   = (told | tell | ask | asked | remind) (him | her | me | my <any>) [to]
              | want me [to] | forgot | forget | remember | (he | she | doctor) said | says
""",
    gap=" ",
    reach=60,
)

# What turns a phrase round that stands behind it: "don't stop", "no need to", "if you remove".
DENIED: Final = (
    "<unsaid>",
    "<hearsay>",
    "if <somebody>",
    "(dont | do not | no) (need | have) to",
    "(dont | do not) [you dare | want | wish | like | let | have | need] [you | me | it] [to] [be]",
    "(not | never | didnt | did not | doesnt | wont | cant | cannot | wouldnt | couldnt | neednt"
    " | had to | do <you> | did (you | they | he | she | we | i | someone | the <any>))"
    " [ask | asked | want | need | wish | going | have] [you | me] [to] [be]",
)
# Who tells, or asks about it, asks for nothing: "I removed", "why did you remove".
TOLD: Final = (
    *DENIED,
    "(let me | <i> | i will | always | when people | they | he | she | my <family>) [always | has]",
    "why (did | do | have | was | were) <you>",
)
REFUSALS: Final = (
    # "Didn't I tell you not to call?"
    GRAMMAR.refusal(
        "(did i not | did we not | didnt i | didnt we | havent i | have i not) <say> [<you>]"
        " ((<dont> | <order>) <to_call> | [to] stop <calling>)",
        after="[<me>] [<again>] <later>",
    ),
    # "I told you not to call me", "you may not call here again", "I hope you don't call back"
    GRAMMAR.refusal(
        "(<order> | <hoped>) <to_call> (<me_again> | my <family> <again> | &(<full_stop>))",
        "(<order> | <hoped>) <to_call> back &(<full_stop>)",
        "(<order> | <hoped>) <bother> (me | us) !(with) [<again>]",
        "(<you> (dont | do not) (need | have) to | no need to | neednt) <call> [<me>] <once_more>",
        before=("<unsaid>", "<hearsay>", "(did | do | does | have | why | if) [<you>]"),
        after="<later>",
    ),
    # "Don't call me", "never call here again", "don't bother to call back"
    GRAMMAR.refusal(
        "<dont> [<you> | under any circumstances] [dare] [to] <to_call>"
        " (<me_again> | my <family> <again> | &(<full_stop>))",
        "<dont> <to_call> back &(<full_stop>)",
        "<dont> <call> (my family | it <again>)",
        "<dont> [<you>] [dare] [to] <bother> (me | us) !(with) [<again>]",
        "<dont> bother [to] (<calling> | <call>) [me | us] [back | again] &(<full_stop>)",
        "<dont> (reach out | get in touch) [(to | with) (me | us)] <again>",
        "<dont> (let | have) <anybody> <call> (<me_again> | &(<full_stop>))",
        "<dont> (let | make) me hear (your voice | from <you>)",
        "<dont> let me catch <you> <calling> <me_again>",
        "<dont> make [any] (more | further) calls",
        "how dare <you> <call> <me_again>",
        before=("<habit>", "<unsaid>", "<hearsay>"),
        after="<later> | without",
    ),
    # "Nobody should call me", "this number is not to be called"
    GRAMMAR.refusal(
        "(nobody | no one) (is to | should | must | may) (be <calling> | <call>) <me_again>",
        "<you> (should not | shouldnt | must not) be <calling> <me_again>",
        "(not to | should not | must not | never to) be <called> &(<no_name>)",
        "sure (nobody | no one) calls <me_again>",
        "(sure | ensure) (im | i am | this number isnt | <number> is) [not | never] <called>"
        " <again>",
        "sure i (dont | do not | never) get (called <again> | <calls> | another call)",
        "better not (get another call | receive another call | hear from <you> again)",
        before=("why", "<unsaid>"),
        after="<later>",
    ),
    # "You have no right to call me", "I never gave you permission to call", "I revoke my consent"
    GRAMMAR.refusal(
        "<you> ((dont | do not | never | no longer) have [any | my | the] | have no) <consent>"
        " (to <call> (<me_again> | &(<full_stop>)) | <calling> <me_again> | &(<full_stop>))",
        "(<you> (are | were) | youre | you re) not (allowed | welcome | permitted | authorized"
        " | authorised) to <call> <me_again>",
        "(dont | do not | didnt | did not | havent | have not | never | not | no longer)"
        " (give | gave | given | grant | granted) [<you> | <anybody>] [any | my | the] <consent>"
        " to <call> (<me_again> | &(<full_stop>))",
        "(dont | do not | didnt | did not | never | no longer) <allow> (<you> | <anybody>)"
        " to <call> <me_again>",
        "(revoke | revoking | withdraw | withdrawing | take back) [my | all | any | all my]"
        " (consent | permission)",
        "object to (being <called> | <calls> | <you> <calling>)",
        before=(
            "<unsaid>",
            "(if | whether | why | unless | did | do | can | true | true that) [<i>]",
            "(dont | do not | didnt | did not | never | not | have not | havent) [want to]",
        ),
        after="<later>",
    ),
    # "I don't want to be called", "I'd rather not get these calls"
    GRAMMAR.refusal(
        "<dont_want> (be | get | being | getting | to be) <called>"
        " (<again> | by (<you> | <anybody> | robots) | &(<no_name>))",
        "<dont_want> [get | getting | receive | receiving | have]"
        " ([no more] <calls> | another [phone] call)",
        "<dont_want> (<you> | <anybody>) [to] [keep] (<call> | <calling>)"
        " (<me_again> | [back] &(<full_stop>))",
        "<dont_want> (hear | hearing) from (you | your | yall | this | any of you | anyone)",
        "<dont_want> (talk | speak) to <you> again",
        "<dont_want> [be | <mine>] (on | in) <list>",
        "<dont_want> <you> [to] (have | having) <mine>",
        "<dont_want> [any] [more | further] contact (with | from) <you>",
        "<dont_want> [any] (more | further) contact",
        "(dont | do not | no longer) need <of_those> <calls>",
        "(dont | do not) like <you> <calling> <me_again>",
        "(dont | do not) (accept | take) <a_kind> calls",
        "(prefer | rather | like) (not [to] | to not)"
        " ((be | get) <called> (<again> | &(<no_name>)) | (receive | get | have) <calls>)",
        "appreciate not being <called> (<again> | &(<no_name>))",
        before=("<unsaid>",),
        after="<later> | to | with (the | that) | recorded",
    ),
    # "Stop calling me", "if you don't stop ringing me, I'll report you", "leave me alone"
    GRAMMAR.refusal(
        "[<nagging>] <stop> [texting and] (<calling> | <bothering>)"
        " (<me_again> | my <family> [<again>])",
        "[<nagging>] <stop> (calling | phoning | cold calling) (&(<full_stop>) | now | already"
        " | immediately | any | again | all the time | every day | looking for)",
        "(<start> | (can | will | would) <you> | <you> (need to | have to | must))"
        " stop ringing [up] &(<full_stop>)",
        "stop (trying to (<call> | reach) | blowing up) <me>",
        "<nice_if> <you> stopped <calling>",
        "leave (me | us) [and my family] (alone | in peace | be)",
        before=TOLD,
        after="[<place>] <then> | with !(<calls> | your)",
    ),
    # "No more calls", "these calls must stop", "I've had enough of your calls"
    GRAMMAR.refusal(
        "(<stop> | enough of | enough with | knock it off | cut it out | cut out | quit it) [it]"
        " [with | making | getting | receiving | sending me | being <called>]"
        " (<calls> | [all] (contact | communication) | this calling)",
        "(end | put an end to) (all | these | your) calls",
        "i (refuse | decline) [to take] <calls>",
        "i refuse to be <called>",
        "(wont take | will not take | wont be taking) <calls>",
        "[how (do | can) i] (make | want | need | get) <calls> [to] stop",
        "(calls | robocalls) (need to | have to | must | have got to) stop",
        "[have] had (enough of | it with) (<calls> | <you> <calling>)",
        "(sick [to death] | tired | fed up) (of | with)"
        " (<calls> | <you> <calling> [me] &(<no_name>))",
        "<you> keep calling [me] [and i want it to] stop",
        "no (more | further | <a_kind>) ([phone | of] <calls> | calling | contact | communication"
        " | ringing)",
        "(<start> | want) no [phone | <a_kind>] calls &(<full_stop>)",
        before=(
            *DENIED,
            "(have | has | had | got | get | gets | receive | are | were | there | do) [<any>]",
        ),
        after="[<place>] <then> | today | tonight | came | dropping | being | recorded"
        " | information | details | (for | to) (me | my | make)",
    ),
    # "Take me off your list", "remove my number", "just lose my number"
    GRAMMAR.refusal(
        "[<nagging>] (take | keep | remove | delete | drop | strike | cross | scratch) <hold>"
        " [right] <off> <list>",
        "[<nagging>] get <hold> [right] (off [of] | out of) <list>",
        "get (me | us | <number>) from <list>",
        "(taking | removing) <hold> <off> <list>",
        "mind (removing | deleting) <mine>",
        "<you> (took | had taken | removed | had removed | would take | would remove) <hold>"
        " <off> <list>",
        "(take (me | <mine>) off | remove (me | us))"
        " (&(<full_stop>) | from [all | any] [future | further] calls)",
        "<delete> <mine>",
        "(and | go | so | <you> to | (can | could) you | you can)"
        " (lose | forget) (<number> | the number)",
        "forget you (had | have) <number>",
        before=(*TOLD, "would you <want>"),
        after="from <dnc> | from !(your | any | all | here | there)"
        " | later | at any time | any time | if",
    ),
    GRAMMAR.refusal(
        "(lose | forget) (<number> | the number)",
        before=(*TOLD, "will | would | might | may | must | can | could | to | and | or | <you>"),
    ),
    # "I want to be taken off your list", "how do I get off it?"
    GRAMMAR.refusal(
        "(be | get | me | <mine>) (removed | taken | deleted) <off> <list>",
        "(<want> | how (do | can) i | do to) [<mine>] [to] [get] (off | out of) <list>",
        "(get | have | <want>) <mine> <deleted>",
        "<number> [to] be <deleted>",
        "<mine> (needs to | has to | must) (come | be taken) (off | out of) <list>",
        "(see | sure | ensure) [that] (<mine> is | i am | im) (<deleted> | taken off <list>)",
        "(thought | told) (i was | id been | i had been | we were)"
        " ([taken | removed] <off> <list> | on <dnc>)",
        "(<want> | asked) to be (removed | unsubscribed | left alone)",
        "(how (do | can) i | want to | do to) stop [getting | receiving] <calls>",
        "(how (do | can) i | want to | do to) stop being <called>",
        before=(*DENIED, "(would | do) you"),
    ),
    # "Unsubscribe", "how do I opt out?"
    GRAMMAR.refusal(
        "[(how do | where do | can | may | could) i | im | i am] <opt_out> [me]"
        " (&(<full_stop>) | (from | of) (<calls> | this | <list>))",
        before=(
            *TOLD,
            "(should | do | would | might | may | can | could) i [have to]",
            "(i | you) (can | could | may | might)",
            "(want me | press <any>) to",
            "(mean | does) [by]",
        ),
    ),
    # "Put me on the do not call list"
    GRAMMAR.refusal(
        "(put | place | add | added | get | go | be) [me | us | <number>] (on | to) <dnc>",
        "(im | i am | were | we are | i have | <number> is) [registered] (on | with) <dnc>",
        "<start> <dnc> &(<full_stop>)",
        "(on | with) the (tps | telephone preference service)",
        "(mark | flag | put) (me | <number>) [down] [as] do not call",
        before=(*DENIED, "whether"),
    ),
    # "This is the last time you call me", "if you call again, I'll sue you"
    GRAMMAR.refusal(
        "(this is | thats | that is) the last time [that] you call",
        "this (better | had better) be the last (time [that] you call | call)",
        "(<start> | if <you>) <call> [<me>] <once_more> [,] [and] (i | im | ill | we | well) <few>"
        " <police>",
        "<police> [you | <any> <any>] [,] if <you> <call> [<me>] <once_more>",
    ),
)

CUT_NOT = re.compile(r"\b(don|can|won|didn|doesn|wouldn|couldn|shouldn|mustn) t\b")
# as transcripts have them, with the commas around: "Don't, uh, call me."
HESITATION = re.compile(r"(?: ,)?(?: (?:uh|uhm|um|er|erm|ah|hmm))+\b(?: ,)?")
# "Just don't you ever fucking call me, please" says no more than "don't you call me".
EMPHASIS = (
    "please|pls|kindly|nicely|thanks|thank you(?: (?:so|very) much)?|just|ever|even|really|actually"
    "|honestly|simply|specifically|the hell|the fuck|fuckin|fucking|freaking|frigging|bloody"
    "|damn|damned|goddamn"
)
SAYS_NOTHING = re.compile(rf" , (?:{EMPHASIS}) ,| (?:{EMPHASIS})\b")


def refuses_in_english(words: str) -> bool:
    """Whether words ask for no more calls: each between spaces, as is the comma after a clause."""
    text = SAYS_NOTHING.sub("", HESITATION.sub("", CUT_NOT.sub(r"\1t", words)))
    return any(refusal.stands_in(text) for refusal in REFUSALS)
